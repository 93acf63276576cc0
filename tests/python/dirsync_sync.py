"""Has the real dirsync make a directory what another one is: SOURCE TARGET [only|include|exclude|ignore=REGEX]..."""

import logging
import sys

from dirsync import sync

source, target, *filters = sys.argv[1:]
lists = {"only": [], "include": [], "exclude": [], "ignore": []}
options = {}
for given in filters:
    name, value = given.split("=", 1)
    if name in lists:
        lists[name].append(value)
    else:
        options[name] = value == "True"
sync(source, target, "sync", purge=True, logger=logging.getLogger("quiet"), **lists, **options)
