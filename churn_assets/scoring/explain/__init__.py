"""Why a score is what it is: contributions and reasons."""
