/* PROCMAP_QUERY (Linux 6.11, proc_pid_maps(5)), under names of our own: older headers lack it. */
#ifndef SNAPSERV_PROCMAP_H
#define SNAPSERV_PROCMAP_H

#include <stdint.h>
#include <sys/ioctl.h>

struct snapserv_procmap {
    uint64_t size, query_flags, query_addr;
    uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
#define SNAPSERV_PROCMAP_QUERY _IOWR('f', 17, struct snapserv_procmap)

enum {
    SNAPSERV_MAP_READABLE = 0x01,
    SNAPSERV_MAP_WRITABLE = 0x02,
    SNAPSERV_MAP_EXECUTABLE = 0x04,
    SNAPSERV_MAP_SHARED = 0x08,
    SNAPSERV_MAP_COVERING_OR_NEXT = 0x10,
};

#endif
