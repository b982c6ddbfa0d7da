"""What devices that are not here would make of the present setting."""
