"""A seller put together: routes, rails, book, challenges and background settlement behind one object, the Paywall."""

from micropaywall.seller.paywall import Paywall

__all__ = ["Paywall"]
