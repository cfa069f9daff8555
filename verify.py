"""The command `eqvae-verify` in a checkout; `twostage.cli.verify` is what it does."""

from twostage.cli.verify import main

if __name__ == "__main__":
    main()
