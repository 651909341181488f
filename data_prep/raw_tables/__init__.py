"""Raw files of any kind as lazy tables: packing, encoding, dialect, parts."""
