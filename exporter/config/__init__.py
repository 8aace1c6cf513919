"""The configuration: YAML nodes with positions, the vocabulary of fields, the schema, and the file that is read."""
