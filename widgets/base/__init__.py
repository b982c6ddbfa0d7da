"""What every view is made of: the Session it follows, its sources, marks, pictures and plots."""
