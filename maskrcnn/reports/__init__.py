"""HTML pages: the report of a run, charts, the contact sheet of a dataset."""
