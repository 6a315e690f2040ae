"""What a run is going to do, what runs before it did, and how one that was stopped goes on."""
