/* hold PID: keeps all threads of a process from running, which a signal CONT does not undo, until the process is killed or we are. It
 * says "held" once they stand. As a process is that waits for a file system for ever, except that it can be killed. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

int main(int count, char **words) {
    if (count != 2) return 2;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", atoi(words[1]));
    DIR *tasks = opendir(path);
    if (!tasks) return 1;
    for (struct dirent *task; (task = readdir(tasks));) {
        pid_t thread = atoi(task->d_name);
        if (!thread) continue;
        if (ptrace(PTRACE_SEIZE, thread, 0, 0) || ptrace(PTRACE_INTERRUPT, thread, 0, 0)) return 1;
        if (waitpid(thread, NULL, __WALL) != thread) return 1;
    }
    puts("held");
    fflush(stdout);
    /* Their parent hears of their end once we have. */
    while (waitpid(-1, NULL, __WALL) > 0) {}
    return 0;
}
