"""The whole page: the views laid out, tabs, and the first minute's hint and tour."""
