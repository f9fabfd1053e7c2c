"""`python -m tests.golden`, from the repository's root."""

from tests.golden import renew

for path in renew():
    print(path)
