"""The student: heads that anticipate the next action from windows, and their training.

`train.train` is the way in, `config.StudentConfig` says what is trained and how. Windows
themselves are made by `antcache.windows`.
"""
