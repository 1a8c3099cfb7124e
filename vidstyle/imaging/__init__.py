"""Still pictures, and arithmetic on pixels."""
