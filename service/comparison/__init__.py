"""POST /compare: what one model costs against another, on the same examples and the same machine."""
