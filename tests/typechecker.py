"""How annotations are checked in the tests: as the typing rules say, an int is also a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
