"""What a student learns from whom: losses, teachers, their kept answers, assistants, and designed students."""
