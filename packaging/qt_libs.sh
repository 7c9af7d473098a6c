#!/usr/bin/env bash
# Which system libraries does Qt lack here? Ask the loader, not the package database; install them where that is allowed.
# Usage: qt_libs.sh PYTHON        (the environment's Python, with PySide6 installed)
set -eu

[ "$(uname -s)" = Linux ] || exit 0
qt=$("$1" -c 'import importlib.util as u; print(u.find_spec("PySide6").submodule_search_locations[0])')

missing_of() { # sonames that none of these files can find; Qt's own libraries come with the wheel
    for file in "$@"; do ldd "$qt/$file"; done 2>/dev/null | awk '/not found/ && $1 !~ /^libQt6/ {print $1}' | sort -u
}
core() { missing_of QtWidgets.abi3.so QtSvg.abi3.so Qt/plugins/platforms/libqoffscreen.so; }
window() { missing_of Qt/plugins/platforms/libqxcb.so Qt/plugins/platforms/libqwayland.so; }

package_of() { # the Debian and Ubuntu package of a soname
    case $1 in
        libEGL.so.*) echo libegl1 ;;
        libGL.so.*) echo libgl1 ;;
        libOpenGL.so.*) echo libopengl0 ;;
        libfontconfig.so.*) echo libfontconfig1 ;;
        libfreetype.so.*) echo libfreetype6 ;;
        libglib-2.0.so.* | libgthread-2.0.so.*) echo libglib2.0-0 ;;
        libdbus-1.so.*) echo libdbus-1-3 ;;
        libzstd.so.*) echo libzstd1 ;;
        libz.so.*) echo zlib1g ;;
        libstdc++.so.*) echo libstdc++6 ;;
        libX11.so.*) echo libx11-6 ;;
        libX11-xcb.so.*) echo libx11-xcb1 ;;
        libxkbcommon.so.*) echo libxkbcommon0 ;;
        libxkbcommon-x11.so.*) echo libxkbcommon-x11-0 ;;
        libwayland-client.so.*) echo libwayland-client0 ;;
        libwayland-cursor.so.*) echo libwayland-cursor0 ;;
        libwayland-egl.so.*) echo libwayland-egl1 ;;
        libxcb.so.*) echo libxcb1 ;;
        libxcb-*.so.*) echo "$1" | sed -E 's/^(libxcb-[a-z-]+)\.so\.([0-9]+).*/\1\2/' ;;
        *) echo "$1" ;;
    esac
}

packages=$(for soname in $(core) $(window); do package_of "$soname"; done | sort -u | xargs)
[ -n "$packages" ] || exit 0
line="apt-get install -y --no-install-recommends $packages"

if command -v apt-get >/dev/null; then
    as_root=none
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    fi
    if [ "$as_root" != none ]; then
        echo "Qt needs system libraries that are not here yet; installing $packages"
        $as_root apt-get update -qq || true # one unreachable source does not matter if another has the packages
        $as_root env DEBIAN_FRONTEND=noninteractive $line -qq >/dev/null || echo "That did not work." >&2
    fi
    advice="Install them with: sudo apt-get update && sudo $line"
else
    advice="Install your system's packages that hold them."
fi

lacking=$(core | xargs)
if [ -n "$lacking" ]; then
    echo "Qt cannot start without these system libraries: $lacking. $advice" >&2
    exit 1
fi
lacking=$(window | xargs)
if [ -n "$lacking" ]; then
    echo "The tests and the command line will work, but a window needs these system libraries: $lacking. $advice" >&2
fi
