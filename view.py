"""The command `eqvae-view` in a checkout; `twostage.cli.view` is what it does."""

from twostage.cli.view import main

if __name__ == "__main__":
    main()
