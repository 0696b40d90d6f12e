"""From what users have, such as pictures, to the arrays that models take."""
