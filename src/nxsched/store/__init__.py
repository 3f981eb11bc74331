"""PostgreSQL: tables, migrations, roles, and the statements of every subject, in SQLAlchemy Core."""
