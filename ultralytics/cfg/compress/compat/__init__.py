# SPDX-License-Identifier: AGPL-3.0-or-later
"""Names of Ultralytics that differ between its releases: all other code imports them from here.

What stands for a name is chosen by what is there, never by a version number. A class of layers that a release lacks is
stood for by one that nothing is an instance of.

| name                                     | since   | before                                                      |
| ---------------------------------------- | ------- | ----------------------------------------------------------- |
"""
