"""The models of a home: all versions, one of them, two beside each other, and the release that lets one in."""
