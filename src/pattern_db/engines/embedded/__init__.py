"""What the engines that keep a file in this process share: SQLite's dialect and one writer."""
