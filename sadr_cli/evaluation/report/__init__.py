"""Results as a record, tables, charts and files."""
