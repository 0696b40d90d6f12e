"""The answer of POST /compare, `stillroom.compare/1`: what each number is. It computes nothing.

Fields are added, never renamed. Every interval is of 95 %.
"""
