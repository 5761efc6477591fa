"""Records as frames, tables, comparisons and other tools' files. Never imports torch."""
