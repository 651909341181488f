"""Studies of tables: every kind of table at equal bytes."""
