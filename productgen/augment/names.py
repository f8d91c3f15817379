"""Reading comma separated names out of a config, with errors that help."""

import difflib


def split_names(text, valid, field):
    """Splits 'a,b' and checks each name.

    Raises:
      ValueError: on an unknown name; the message has the config field, the nearest valid name and all of them.
    """
    names = [name.strip() for name in text.split(',')]
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1)
            hint = f', did you mean {near[0]!r}?' if near else ','
            raise ValueError(f'{field}: unknown name {name!r}{hint} valid names are {", ".join(valid)}')
    return names
