/* noflock COMMAND...: becomes COMMAND, for which and for all of whose children every lock on a file is granted and none is taken: as
 * where several machines share a file system that keeps locks to itself. Unlike a preloaded library, it holds whatever a program does
 * to its environment, and for programs that are linked statically. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the lower half of an argument is expected first"
#endif

/* The numbers that the kernel uses; the C library's may differ. */
enum { SETLK = 6, SETLKW = 7, OFD_SETLK = 37, OFD_SETLKW = 38 };

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (then), (otherwise))

int main(int count, char **words) {
    struct sock_filter filter[] = {
        LOAD(nr),
        IF(SYS_flock, 7, 0),
        IF(SYS_fcntl, 0, 5),
        LOAD(args[1]),
        IF(SETLK, 4, 0),
        IF(SETLKW, 3, 0),
        IF(OFD_SETLK, 2, 0),
        IF(OFD_SETLKW, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        /* Not executed, and successful. */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (count < 2) {
        fprintf(stderr, "noflock: no command\n");
        return 2;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("noflock: seccomp");
        return 1;
    }
    execvp(words[1], words + 1);
    perror(words[1]);
    return 127;
}
