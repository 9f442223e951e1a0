"""Where the teacher's weights come from."""
