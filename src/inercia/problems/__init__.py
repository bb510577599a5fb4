"""What is optimised: networks, risks, data and their files, and small losses to look at."""
