"""What is left of a trial: its record, its checkpoint, and the statistics, tables and plots of many."""
