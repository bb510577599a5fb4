"""How griffe, which reads the source for the reference, is told of three things that it does not see by itself.

fields     results tell of their fields in a comment beside each; it becomes the field's description
examples   stand under `Example:`; griffe wants `Examples:`
methods    `inercia.adam` is reached through a table whose names are computed; each file's `__all__` gives them
"""

import re

from griffe import Alias, Docstring, Extension


class Reading(Extension):
    """Comments on fields, examples, names of methods."""

    def on_attribute_instance(self, *, attr, **_):
        """Take the comment on a field's line, and on the lines below it, for its docstring; called by griffe."""
        if attr.docstring or not attr.endlineno or not attr.parent.is_class:
            return
        lines = attr.filepath.read_text(encoding="utf-8").splitlines()[attr.endlineno - 1 :]
        words = [lines[0].partition("  # ")[2]]
        for line in lines[1:] if words[0] else []:
            if not line.strip().startswith("# "):
                break
            words.append(line.strip()[2:])
        if words[0]:
            attr.docstring = Docstring(" ".join(words), parent=attr)

    def on_instance(self, *, obj, **_):
        """Make the section `Example:` one of code; called by griffe."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_package(self, *, pkg, **_):
        """Give the package the names of every method; called by griffe."""
        if pkg.path != "inercia":
            return
        for module in pkg["methods"].modules.values():
            for name in map(str, module.exports or []):
                if name in module.members and name not in pkg.members:
                    pkg.set_member(name, Alias(name, module[name]))
