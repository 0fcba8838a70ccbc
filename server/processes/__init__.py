"""What the processes of a station are to each other: parent, children, and what joins them."""
