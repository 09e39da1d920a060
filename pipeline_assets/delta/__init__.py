"""What is known of Delta Lake: tables, the commit loop and its decision, pinned reads, restores. No Dagster."""
