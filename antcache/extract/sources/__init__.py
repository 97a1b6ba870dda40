"""Videos that are not one local file: pictures with numbers, chapters, files at URLs; and lists.

Promise: each is a `VideoSource`, small and picklable; nothing is opened, unpacked or fetched before
its frames are asked for. Files themselves are read in `videos/`.
"""
