"""A whole archive: many inputs over processes or machines, answered once each, with tables and a report.

Everything that is known of an input lies on the disk under the sha256 of its content: its results, or why there are
none (`answers`). The tables are made of that, whole, at the end of a run. So a run may end at any moment.
"""
