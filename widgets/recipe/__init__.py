"""The recipe as text, as Python and as the page's address."""
