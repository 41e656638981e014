"""HTML pages: the report of a run with its charts, and the contact sheet of a dataset."""
