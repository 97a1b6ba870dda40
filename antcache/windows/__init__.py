"""Windows: which rows of its features each segment is anticipated from, and what is known of it.

`index` and `frame_labels` are numpy alone; the other modules need torch. Nothing here knows of
students or their settings: whoever looks at windows (training, prediction, the doctor) makes them
here.
"""
