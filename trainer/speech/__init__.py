"""Speech: from recordings of words to frames and the states that they belong to (section 4 of the paper)."""
