"""The student: windows from a store, heads that anticipate the next action, and their training.

`antcache.student.windows` is numpy alone; the other modules need torch. `train.train` is the way
in, `config.StudentConfig` says what is trained and how.
"""
