"""Champion against challenger: evidence, comparison, guard checks, verdict."""
