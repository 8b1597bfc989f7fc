"""Moving images between the folders of the spool, and checking that all records agree."""
