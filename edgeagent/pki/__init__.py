"""Certificates: where they lie, whom we believe, and how the agent's own is made.

======================  ========================================================================
``own/``                ``certificate.pem`` and ``key.pem`` of the agent, ``request.pem`` for a CA
``trusted/``            certificates that a person has accepted; an authority stands for all that
                        it issues
``rejected/``           what was shown and not accepted, to be looked at
``issuers/``            authorities that are believed only as links of a chain; ``no-crl`` lists
                        the fingerprints of authorities that publish no revocation list
``crl/``                revocation lists
======================  ========================================================================

A file is PEM or DER, seen from its content, and may hold several certificates. Everything is read
anew when it is needed: what a person changes holds from the next connection on.
"""
