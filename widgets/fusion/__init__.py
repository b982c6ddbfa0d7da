"""Which operators a runtime takes into one another."""
