"""What was measured, as a record, tables, charts and files."""
