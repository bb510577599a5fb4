"""The methods, one file each: equation, transition and flow side by side; `methods.table` lists them."""
