"""What a wrong Y, average or gradient equals: formulas near the right ones, and the first quantity that differs."""
