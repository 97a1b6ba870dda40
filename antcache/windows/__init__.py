"""Windows: which rows of its features each segment is anticipated from, and what is known of it.

What says which windows there are is numpy alone (`split` and all that it imports, `target_rows`);
what holds their features and soft targets needs torch (`dataset`, `pack`, `lazy`,
`teacher_targets`). Nothing here knows of students or their settings: training, prediction and the
doctor make their windows here.
"""
