"""Methods of selection and ordering: what their parameters are given, and how they are called."""
