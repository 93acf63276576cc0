# Installs lockstep @VERSION@ from the hub that printed the line with which this came: fetches its program, compares the SHA-256 with
# the one that stands here, sees that it runs on this machine, and only then gives it its name. The line has compared the SHA-256 of this
# script already, so nothing runs that is not what the hub printed. Plain POSIX sh; needs curl.
#
# $1: where the hub serves HTTP, such as https://hub.example:7118. $2: `-` where standard input has a join link, only to be shown
# again at the end: it lets somebody in, and a command line can be read by everybody.
# LOCKSTEP_INSTALL_DIR: where to; else /usr/local/bin for root, ~/.local/bin for everybody else.
set -u
hub=$1
link=LINK
[ "${2-}" != - ] || IFS= read -r link || link=LINK
part=
set --

fail() {
    printf 'lockstep: %s; nothing was installed\n' "$1" >&2
    exit 3
}

# $@: the directories that were made for it, the deepest first.
clean() {
    [ -z "$part" ] || rm -f "$part"
    [ $# -eq 0 ] || rmdir "$@" 2>/dev/null
}
trap 'clean "$@"' EXIT
trap 'exit 130' HUP INT TERM

# Is this machine one it can run on?
system=$(uname -s)
[ "$system" = Linux ] || fail "it is for Linux, and this is $system"
machine=$(uname -m)
case $machine in
@MACHINES@) ;;
*) fail "this hub hands out the program for @ARCH@, and this machine is $machine: build it on such a machine (make build)" ;;
esac
needs=@GLIBC@
if [ -n "$needs" ]; then
    has=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc //p')
    if [ -z "$has" ]; then
        told=$(ldd --version 2>&1 | head -n 1)
        case $told in
        *musl*) fail "it needs glibc $needs or newer, and this machine has musl" ;;
        *GLIBC* | *'GNU libc'*) has=${told##* } ;;
        esac
    fi
    # Where nothing tells, the program itself is asked below.
    case $has in
    [0-9]*.[0-9]*)
        minor=${has#*.}
        minor=${minor%%[!0-9]*}
        older=
        [ "${has%%.*}" -ge "${needs%%.*}" ] || older=yes
        [ "${has%%.*}" -ne "${needs%%.*}" ] || [ "$minor" -ge "${needs#*.}" ] || older=yes
        [ -z "$older" ] || fail "it needs glibc $needs or newer, and this machine has $has"
        ;;
    esac
fi

# Where to?
if [ -n "${LOCKSTEP_INSTALL_DIR-}" ]; then
    dir=$LOCKSTEP_INSTALL_DIR
elif [ "$(id -u)" = 0 ]; then
    dir=/usr/local/bin
elif [ -n "${HOME-}" ]; then
    dir=$HOME/.local/bin
else
    fail 'HOME is not set: name a directory in LOCKSTEP_INSTALL_DIR'
fi
place=$dir
while [ ! -d "$place" ]; do
    set -- "$@" "$place"
    place=$(dirname -- "$place")
done
mkdir -p -- "$dir" || fail "the directory $dir cannot be made; LOCKSTEP_INSTALL_DIR names another"
[ ! -d "$dir/lockstep" ] || fail "$dir/lockstep is a directory; LOCKSTEP_INSTALL_DIR names another place"
part=$(mktemp "$dir/.lockstep-install-XXXXXX") || fail "$dir cannot be written; LOCKSTEP_INSTALL_DIR names another directory"

# Where too many fetch it at once, the hub says when to come back, and curl does. No more is taken than there is.
curl -fsSk --connect-timeout 15 --speed-time 60 --speed-limit 1 --retry 20 --retry-max-time 600 "$hub/install/@FILE@" |
    head -c @BYTES@ >"$part"
sum=$(sha256sum <"$part")
[ "${sum%% *}" = @SHA256@ ] ||
    fail "what came from $hub is not whole, or not the program that this hub's line names: its SHA-256 is ${sum%% *} instead of @SHA256@"
chmod 755 "$part" || fail "$part cannot be made a program"
version=$("$part" --version 2>&1) || fail "it does not run on this machine: $version"
mv -f "$part" "$dir/lockstep" || fail "$dir/lockstep cannot be replaced"
part=
set --

command=lockstep
[ "$(command -v lockstep 2>/dev/null)" = "$dir/lockstep" ] || command=$dir/lockstep
printf '%s is installed: %s\nTo join the hub, with DIR for the directory that is to be kept:\n\n    %s join %s DIR\n' \
    "$version" "$dir/lockstep" "$command" "$link"
